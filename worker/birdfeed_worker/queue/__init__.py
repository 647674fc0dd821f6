"""Jobs in Redis: reserve them, keep their lease, and the Lua scripts that change them in one step."""
