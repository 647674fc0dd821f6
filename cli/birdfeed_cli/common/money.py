"""Money as people read it."""

from decimal import Decimal


def usd(cost: Decimal) -> str:
    """For people: cents above a dollar, else three digits that count."""
    if cost == 0:
        return "$0"
    return (
        f"${cost:,.2f}" if cost >= 1 else f"${float(cost):#.3g}" if cost >= Decimal("0.0001") else f"${float(cost):.2e}"
    )
