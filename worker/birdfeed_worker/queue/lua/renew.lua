-- Renew the lease on jobs in flight. ARGV[3] worker, [4] lease (s), [5] execution id, [6...] job ids. Returns how many
-- are still leased.
local worker, lease, execution = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local at, still = now(), 0
for i = 6, #ARGV do
  local composite = ARGV[i] .. ':' .. execution
  if redis.call('ZSCORE', WIP, composite) then
    redis.call('ZADD', WIP, at + lease, composite)
    redis.call('HSET', P .. ':execution:' .. composite, 'last_heartbeat', at)
    redis.call('EXPIRE', P .. ':execution:' .. composite, 3600)
    still = still + 1
  end
end
return still
