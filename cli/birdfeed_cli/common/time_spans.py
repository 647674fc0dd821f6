"""Time spans for display."""


def age(seconds: float, parts: int = 2) -> str:
    """A time span, such as 2 h 5 min, with one or two parts."""
    whole = max(0, round(seconds))
    for unit, name, smaller, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest and parts > 1 else "")
    return f"{whole} s"
