"""Drawing: the only room that knows colours, pages and figures. Reads results, never networks."""
