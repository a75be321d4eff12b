"""The engine: rows of many requests gathered, called and scattered."""

from headrace.engine.engine import Engine
from headrace.engine.order import Order
from headrace.engine.result import Progress, Result, RoundReport
from headrace.engine.settings import EngineSettings
from headrace.engine.standing import Standing

__all__ = ["Engine", "EngineSettings", "Order", "Progress", "Result", "RoundReport", "Standing"]
