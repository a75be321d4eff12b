"""Figures from features: every function here takes arrays and knows neither pictures nor networks."""
