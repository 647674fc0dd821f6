-- Move all or some events out of a dead letter: back into the queue, or delete them. In one step, so that neither
-- concurrent calls for one letter nor a kill in the middle lose or double an event.
-- ARGV[3] letter, [4] SHA-1 of the data that was read ('' = take all events of the present data), [5] back or purge,
-- [6] events taken, [7] the data of the rest ('' = nothing), [8] its bytes, [9] its description, [10] the new job's
-- id (purge: a key in which this call's result for each letter is kept for a while), [11] the new job's event type,
-- [12...] its fields and values.
-- Returns {1, events taken}, or {0} if the letter is missing, {2} if it has changed since it was read.
local id, seen, action, taken = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local key = job_key(id)
if action == 'back' and redis.call('EXISTS', job_key(ARGV[10]), P .. ':birdfeed:' .. Q .. ':done:' .. ARGV[10]) > 0 then
  return {1, taken} -- this step was done before, and its answer was lost
end
if action == 'purge' then
  local before = redis.call('HGET', ARGV[10], id)
  if before then return {1, tonumber(before)} end -- the same
end
if not redis.call('ZSCORE', FAILED, id) then return {0} end
local has = fields_of(key, 'data', 'bf_events', 'bf_type', 'bf_reason')
if not has[1] then
  redis.call('ZREM', FAILED, id)
  return {0}
end
if seen ~= '' and redis.sha1hex(has[1]) ~= seen then return {2} end
local there, reason = whole(has[2], taken, MOST_EVENTS), has[4]
local name = account(LEDGER, has[3] or 'unknown')
local left = ARGV[7] ~= '' and math.max(0, there - taken) or 0
taken = there - left
if reason and reason ~= '' then tally('dead:' .. name .. ':' .. reason, -taken) end
-- A job that no birdfeed producer made was never counted.
if not has[2] then tally('accepted:' .. name, there) end
if action == 'purge' then
  tally('purged:' .. name, taken)
  tally('purged_as:' .. name .. ':' .. (reason or ''), taken)
  redis.call('HSET', ARGV[10], id, taken)
  redis.call('EXPIRE', ARGV[10], 600)
elseif account(LEDGER, ARGV[11]) ~= name then
  -- Edited into another type: it is counted for that one from now on.
  tally('accepted:' .. name, -taken)
  tally('accepted:' .. account(LEDGER, ARGV[11]), taken)
end
if ARGV[7] ~= '' then
  redis.call('HSET', key, 'data', ARGV[7], 'bf_events', left, 'bf_bytes', ARGV[8], 'description', ARGV[9])
  dead_bytes(#ARGV[7] - #has[1])
else
  dead_bytes(-#has[1] - LETTER_OVERHEAD)
  redis.call('ZREM', FAILED, id)
  redis.call('DEL', key, P .. ':results:' .. id)
end
if action == 'back' then
  redis.call('HSET', job_key(ARGV[10]), unpack(ARGV, 12))
  redis.call('RPUSH', QUEUE, ARGV[10])
  redis.call('SADD', P .. ':queues', QUEUE)
end
return {1, taken}
