"""One module per figure, named after the claim it shows; `figures.catalogue` tells what a module holds."""
