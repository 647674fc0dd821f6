-- Count the outcomes of one type's events, and trip its circuit breaker if too many fail for one reason.
-- ARGV[3] type, [4] share above which it trips, [5] minimum number of events, [6] events of the window, [7] events with
-- an outcome, then reason, events dead for it ... Returns the reason for which it tripped, or ''. The counts are halved
-- when they exceed ARGV[6]: they are about the last few hundred events, at any rate.
local type_of = type
local type, share, least, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local window, tripped = P .. ':birdfeed:' .. Q .. ':breaker-window:' .. type, P .. ':birdfeed:' .. Q .. ':breaker'
local at = now()
local off_until = seconds(fields_of(P .. ':birdfeed:' .. Q .. ':breaker-off', type)[1]) or 0
if off_until > at then
  redis.call('DEL', window)
  return ''
end
local is = redis.call('HGET', tripped, type)
if is then
  local _, why = pcall(cjson.decode, is)
  if type_of(why) == 'table' and type_of(why['reason']) == 'string' then return why['reason'] end
  -- Not written by birdfeed: it must not stop the type.
  redis.call('HDEL', tripped, type)
end
local all = add(window, 'all', ARGV[7])
local worst, worst_reason = 0, ''
for i = 8, #ARGV, 2 do
  local dead = add(window, 'dead:' .. ARGV[i], ARGV[i + 1])
  if dead > worst then worst, worst_reason = dead, ARGV[i] end
end
redis.call('EXPIRE', window, 3600)
if all >= least and worst > share * all then
  redis.call('HSET', tripped, type, cjson.encode({reason = worst_reason, dead = worst, seen = all, since = at}))
  redis.call('DEL', window)
  return worst_reason
end
if all > most then
  local counts = redis.call('HGETALL', window)
  for i = 1, #counts, 2 do redis.call('HSET', window, counts[i], math.floor(whole(counts[i + 1], 0) / 2)) end
end
return ''
