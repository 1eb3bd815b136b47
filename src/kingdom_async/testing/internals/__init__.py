"""Every private name of asyncio, trio, anyio and its pytest plugin that the tools need."""
