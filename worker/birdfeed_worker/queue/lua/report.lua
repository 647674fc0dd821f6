-- The result of a request to a destination. ARGV[3] destination, [4] available, backing_off, paused or inconclusive,
-- [5] seconds of backoff as JSON: after the first failure in a row, the second, ... the last one for all later ones;
-- [6] reason, [7] when the request was admitted (epoch s, or ''), [8] its worker.
-- Returns the seconds it backs off from now, as text.
local name, outcome = ARGV[3], ARGV[4]
local key = P .. ':birdfeed:' .. Q .. ':destination:' .. name
local wrong = wrong_kind(key, 'hash')
if wrong then return wrong end
local at = now()
if outcome == 'inconclusive' then
  -- A probe without a result: another worker may probe.
  if redis.call('HGET', key, 'probe') == ARGV[8] then redis.call('HDEL', key, 'probe', 'probe_until') end
  return '0'
end
if outcome == 'available' then
  -- The answer to a request that was sent before the backoff says nothing about the present state.
  local backoff_at, admitted = until_time(redis.call('HGET', key, 'backoff_at'), at), tonumber(ARGV[7]) or at
  if admitted >= backoff_at then
    redis.call('HDEL', key, 'backoff_until', 'backoff_at', 'failures', 'probe', 'probe_until', 'reason', 'paused', 'since')
  end
  redis.call('HSET', key, 'last_success', tostring(at))
  return '0'
end
local backoff_until = until_time(redis.call('HGET', key, 'backoff_until'), at)
local failures = whole(redis.call('HGET', key, 'failures'), 0)
-- Failures of concurrent requests count as one.
if backoff_until <= at then failures = add(key, 'failures', 1) end
local waits = cjson.decode(ARGV[5])
local seconds = waits[math.min(math.max(failures, 1), #waits)]
local new_until = math.max(backoff_until, at + seconds)
redis.call('HSET', key, 'backoff_until', string.format('%.6f', new_until), 'backoff_at', string.format('%.6f', at),
  'reason', ARGV[6], 'probe', '', 'probe_until', '0', 'paused', outcome == 'paused' and '1' or '')
redis.call('HSETNX', key, 'since', tostring(at))
return tostring(new_until - at)
