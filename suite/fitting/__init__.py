"""Fitting: any records and a time, from which baselines, families and their settings are compared and the best kept."""
