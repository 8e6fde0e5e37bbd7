"""Text that commands print: sizes and times."""


def size(count: float) -> str:
    """Bytes in decimal units, such as 1.3 GB."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    whole = units[0] == "B" or count >= 99.5
    return f"{count:.{0 if whole else 1}f} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3 min, 4.5 h or 2.1 days."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
