-- Sums of some dead letters by type and reason, so that they need not be read one by one. ARGV[3] the start among all
-- ids ('-', or '(' and an id) and [4] most letters; or '' and 0, and the letters' ids in [5...].
-- Returns {the last id read, or ''; type, reason ('' = rq failed the job itself), events, the first such letter's id;
-- the next type, ...}, in the order in which they are first found.
local ids = {unpack(ARGV, 5)}
if ARGV[3] ~= '' then ids = redis.call('ZRANGEBYLEX', FAILED, ARGV[3], '+', 'LIMIT', 0, tonumber(ARGV[4])) end
local sums, by_type = {}, {}
for _, id in ipairs(ids) do
  local key = job_key(id)
  local has = fields_of(key, 'bf_type', 'bf_reason', 'bf_events')
  -- A key that is not a hash, or is missing, is not a letter.
  local there = has[1] or has[2] or has[3]
  if not there then
    local other = fields_of(key, 'ended_at', 'description', 'bf_dead')
    there = other[1] or other[2] or other[3]
  end
  if there then
    local type, reason = has[1] or '', has[2] or ''
    local by_reason = by_type[type] or {}
    by_type[type] = by_reason
    if not by_reason[reason] then
      by_reason[reason] = {type, reason, 0, id}
      sums[#sums + 1] = by_reason[reason]
    end
    by_reason[reason][3] = by_reason[reason][3] + whole(has[3], 1, MOST_EVENTS)
  end
end
local answer = {ids[#ids] or ''}
for _, one in ipairs(sums) do
  for _, value in ipairs(one) do answer[#answer + 1] = value end
end
return answer
