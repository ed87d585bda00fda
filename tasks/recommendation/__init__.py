"""Recommendation: clicks."""
