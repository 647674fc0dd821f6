-- May this process send a request to a destination now? ARGV[3] destination, [4] requests/s, [5] bytes/s, [6] bytes of
-- this request, [7] the worker, [8] seconds that a probe may take.
-- Returns the seconds to wait as text ('0': send now), the reason, the time (epoch s), and whether this is the
-- probe (1).
-- One rate limiter for the whole pool:
--   hash  backoff_until, backoff_at, failures, reason, paused (1), probe (worker), probe_until; and the rates'
--         tokens as GCRA times.
local LARGEST = 100000000 -- as BIRDFEED_REQUEST_BYTES allows
local name, per_s, bytes_s, size = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local who, probe_s = ARGV[7], tonumber(ARGV[8])
local key = P .. ':birdfeed:' .. Q .. ':destination:' .. name
local wrong = wrong_kind(key, 'hash')
if wrong then return wrong end
local at = now()
local has = fields_of(key, 'backoff_until', 'failures', 'probe', 'probe_until', 'next_request', 'next_byte', 'reason')
local backoff_until, failures = until_time(has[1], at), whole(has[2], 0)
local probe_until = until_time(has[4], at)
if backoff_until > at then return {tostring(backoff_until - at), has[7] or '', '', 0} end
local probing = 0
if failures > 0 then
  -- After a backoff one request tests whether it is available again, the others wait for the result.
  if has[3] and has[3] ~= '' and has[3] ~= who and probe_until > at then
    return {tostring(math.min(1, probe_until - at)), has[7] or '', '', 0}
  end
  redis.call('HSET', key, 'probe', who, 'probe_until', tostring(at + probe_s))
  probing = 1
end
-- GCRA: a bucket refilled at the rate. It is a twentieth of a second deep in requests and one request deep in bytes:
-- with a depth of a second, the first second after a pause would get twice the limit. What was sent at a lower rate is
-- waited for at today's, as one request of at most LARGEST bytes.
local latest_request, latest_byte = at + 1 / per_s, at + LARGEST / bytes_s
local next_request = math.max(until_time(has[5], at), at - 0.05)
local next_byte = math.max(until_time(has[6], at), at)
if next_request > latest_request or next_byte > latest_byte then
  next_request, next_byte = math.min(next_request, latest_request), math.min(next_byte, latest_byte)
  redis.call('HSET', key, 'next_request', string.format('%.6f', next_request),
    'next_byte', string.format('%.6f', next_byte))
end
local wait = math.max(next_request - at, next_byte - at, 0)
if wait > 0 then return {tostring(wait), 'rate', '', probing} end
redis.call('HSET', key, 'next_request', string.format('%.6f', next_request + 1 / per_s),
  'next_byte', string.format('%.6f', next_byte + size / bytes_s))
return {'0', '', string.format('%.6f', at), probing}
