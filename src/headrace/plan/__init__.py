"""The plan: one row per network evaluation, one column per decision. `headrace.plan.trace` (needs torch) makes them."""

from headrace.plan.column import COLUMNS, Column, key_columns
from headrace.plan.plan import Plan

__all__ = ["COLUMNS", "Column", "Plan", "key_columns"]
