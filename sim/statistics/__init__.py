"""From replicates to statements: means with Monte-Carlo errors, rates, floors and tests of equivalence."""
