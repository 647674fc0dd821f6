"""Money for display."""

from decimal import Decimal


def usd(cost: Decimal) -> str:
    """An amount for display: with cents above a dollar, else with three significant digits."""
    if cost == 0:
        return "$0"
    return (
        f"${cost:,.2f}" if cost >= 1 else f"${float(cost):#.3g}" if cost >= Decimal("0.0001") else f"${float(cost):.2e}"
    )
