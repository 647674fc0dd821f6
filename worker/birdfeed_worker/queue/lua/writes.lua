-- A full Redis (maxmemory, noeviction) refuses a script's commands that may need memory, unless the script has already
-- written: then it can't be stopped in the middle. So each script that must run on a full Redis begins with a write
-- that is always allowed and changes nothing. Seen on Redis 6.2 and 7.0 and on Valkey 9; Redis 7's own way (#!lua
-- flags=allow-oom) is an error on 6.2, and would need the server's version, which may be hidden.
redis.call('DEL', P .. ':birdfeed:' .. Q .. ':nothing')
-- Nothing is written if one of the keys that all jobs share is of the wrong kind: an error in the middle of a script,
-- for example of a ZADD, would leave half of its writes, and lose dead letters. The error names the key.
local KINDS = {[QUEUE] = 'list', [WIP] = 'zset', [SCHEDULED] = 'zset', [FAILED] = 'zset', [LEDGER] = 'hash',
  [P .. ':queues'] = 'set'}
for key, kind in pairs(KINDS) do
  local wrong = wrong_kind(key, kind)
  if wrong then return wrong end
end
