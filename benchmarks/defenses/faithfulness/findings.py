"""What was looked at where a row is far from the paper's; figures are on the page."""

READING: tuple[str, ...] = ()

FINDINGS: dict[str, tuple[str, ...]] = {}
