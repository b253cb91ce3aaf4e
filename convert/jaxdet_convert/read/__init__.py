"""Reading weights files as arrays, without running code from them."""
