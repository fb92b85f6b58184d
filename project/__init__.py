"""The runnable site: webhook deliveries on top of `realtime` and `retrying`."""
