//! Events in motion: asynchronous invocations, retries, dead letters, destinations, event source mappings.
