"""What tables made by formula have in common."""

ALPHAS = (0.1, 0.2, 0.5, 0.8)
SIZES = (100, 1_000, 10_000, 100_000)
METHODS = ("sft", "rdro", "ddro", "mle", "dpo", "ipo", "kto")


def summary_row(value, *, exact=None, spread=0.1, share_ok=1.0, **keys):
    """Return one row of a summary around a value."""
    spread = spread * abs(value)
    interval = {"low": value - spread, "high": value + spread}
    quantiles = {"median": value, "q025": value - 2 * spread, "q975": value + 2 * spread, "max": value + 3 * spread}
    return {**keys, "share_ok": share_ok, "mean": value, **interval, **quantiles, "exact": exact}


def save_tables(folder, tables):
    """Write tables as a study does."""
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if "exact" in table:
            table = table.astype({"exact": "Float64"})  # pandas' NA where a method has no target
        table.to_parquet(path)
