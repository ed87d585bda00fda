"""Published weights in and out, by the IMPORTS tables beside the models."""
