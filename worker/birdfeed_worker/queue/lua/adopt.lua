-- Count a job that rq failed by itself (a stock worker took it) as a dead letter, and keep it from expiring.
-- ARGV[3] id. Returns its events, or 0 if there was nothing to do, -1 if only its entry was left.
local id = ARGV[3]
local key = job_key(id)
if not redis.call('ZSCORE', FAILED, id) then return 0 end
local has = redis.call('HMGET', key, 'status', 'bf_events', 'bf_type', 'bf_reason')
if not has[1] then
  redis.call('ZREM', FAILED, id)
  return -1
end
redis.call('ZADD', FAILED, -1, id)
redis.call('PERSIST', key)
if has[4] and has[4] ~= '' then return 0 end
local type, events = has[3] or 'unknown', tonumber(has[2] or '')
if not events then
  events = 1
  redis.call('HSET', key, 'bf_events', 1, 'bf_type', type)
  redis.call('HINCRBY', LEDGER, 'accepted:' .. type, 1)
end
redis.call('HSET', key, 'bf_reason', 'failed')
redis.call('HINCRBY', LEDGER, 'dead:' .. type .. ':failed', events)
return events
