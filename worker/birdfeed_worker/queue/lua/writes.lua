-- A Redis that is full (maxmemory, noeviction) refuses a script's commands that may take memory, unless the script has
-- written already: it can't be stopped half-way. So each script by which work goes on begins with a write that is always
-- allowed and changes nothing. Seen on Redis 6.2 and 7.0 and on Valkey 9; Redis 7's own way (#!lua flags=allow-oom) is an
-- error on 6.2, and would need the server's version, which may be hidden.
redis.call('DEL', P .. ':birdfeed:' .. Q .. ':nothing')
