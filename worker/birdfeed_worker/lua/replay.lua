-- Put a dead letter back into the queue. ARGV[3] job id, [4] new data, [5] bytes, [6] description.
-- Returns 1, or 0 if it is no longer there (replayed, purged or requeued by somebody else).
local id = ARGV[3]
local key = job_key(id)
if redis.call('ZREM', FAILED, id) == 0 then return 0 end
local has = redis.call('HMGET', key, 'bf_events', 'bf_type', 'bf_reason', 'status')
if not has[4] then return 0 end
if has[3] and has[3] ~= '' then
  redis.call('HINCRBY', LEDGER, 'dead:' .. (has[2] or 'unknown') .. ':' .. has[3], -(tonumber(has[1] or 1) or 1))
end
redis.call('HDEL', key, 'bf_reason', 'bf_posted', 'bf_first_taken')
redis.call('HSET', key, 'status', 'queued', 'description', ARGV[6], 'data', ARGV[4], 'bf_bytes', ARGV[5])
redis.call('DEL', P .. ':results:' .. id)
redis.call('RPUSH', QUEUE, id)
redis.call('SADD', P .. ':queues', QUEUE)
return 1
