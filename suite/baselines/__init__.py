"""Classical baselines by scikit-learn: features by kind of input, estimators by problem. Loads no JAX."""
