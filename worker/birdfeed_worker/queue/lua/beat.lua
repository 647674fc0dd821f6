-- A worker's heartbeat: its entry in rq's format, written again if it is missing (it expired, or Redis lost it).
-- ARGV[3] worker, [4] seconds until it expires, [5] last_heartbeat in rq's format of a time, [6] state, [7] jobs done
-- and [8] events dead since the last heartbeat, [9...] fields and values of a complete entry.
local key = P .. ':worker:' .. ARGV[3]
local wrong = wrong_kind(key, 'hash') or wrong_kind(P .. ':workers', 'set') or wrong_kind(P .. ':workers:' .. Q, 'set')
if wrong then return wrong end
if redis.call('HEXISTS', key, 'hostname') == 0 then
  redis.call('HSET', key, unpack(ARGV, 9))
end
redis.call('HSET', key, 'last_heartbeat', ARGV[5], 'state', ARGV[6])
if ARGV[7] ~= '0' then add(key, 'successful_job_count', ARGV[7]) end
if ARGV[8] ~= '0' then add(key, 'failed_job_count', ARGV[8]) end
redis.call('EXPIRE', key, ARGV[4])
redis.call('SADD', P .. ':workers', key)
redis.call('SADD', P .. ':workers:' .. Q, key)
return 1
