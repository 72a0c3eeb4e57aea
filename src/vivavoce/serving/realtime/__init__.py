"""``/v1/realtime``: conversations over a WebSocket, spoken and written, while they happen."""
