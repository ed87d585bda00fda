"""The server: bundles behind an address. It knows bundles, codecs and the data they hold, and no training code."""
