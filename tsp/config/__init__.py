"""Configurations: one frozen object per run or job, recipes, data sets, sizing."""
