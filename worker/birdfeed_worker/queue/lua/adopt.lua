-- Count a job that rq failed by itself (rq's own worker or clean-up) as a dead letter, and remove its expiry.
-- ARGV[3] id, [4] now in rq's format of a time, for a job without a time of its end.
-- Returns its events, or 0 if there was nothing to do, -1 if there was only its entry.
local id = ARGV[3]
local key = job_key(id)
if not redis.call('ZSCORE', FAILED, id) then return 0 end
if redis.call('TYPE', key)['ok'] ~= 'hash' then
  redis.call('ZREM', FAILED, id)
  return -1
end
local has = redis.call('HMGET', key, 'bf_events', 'bf_type', 'bf_reason', 'ended_at')
redis.call('ZADD', FAILED, -1, id)
redis.call('PERSIST', key)
if has[3] and has[3] ~= '' then return 0 end
local type, events = has[2] or 'unknown', whole(has[1], nil, MOST_EVENTS)
if not events then
  events = 1
  redis.call('HSET', key, 'bf_events', 1, 'bf_type', type)
  if not has[1] then tally('accepted:' .. account(LEDGER, type), 1) end
end
redis.call('HSET', key, 'bf_reason', 'failed')
if not has[4] or has[4] == '' then redis.call('HSET', key, 'ended_at', ARGV[4]) end
tally('dead:' .. account(LEDGER, type) .. ':failed', events)
return events
