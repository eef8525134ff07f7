"""What was asked for: one frozen configuration a run or job, recipes, data sets, sizing."""
