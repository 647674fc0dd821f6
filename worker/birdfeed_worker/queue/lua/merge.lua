-- Merge several dead letters into one, if none has changed since it was read. ARGV[3] the new letter's id, [4] the
-- number of letters, and each: id, SHA-1 of its data; then the new letter's fields and values. Returns 1, or 0 if
-- nothing was done.
local count = tonumber(ARGV[4])
for n = 0, count - 1 do
  local id, seen = ARGV[5 + 2 * n], ARGV[6 + 2 * n]
  if not redis.call('ZSCORE', FAILED, id) then return 0 end
  local data = fields_of(job_key(id), 'data')[1]
  if not data or redis.sha1hex(data) ~= seen then return 0 end
end
for n = 0, count - 1 do
  local id = ARGV[5 + 2 * n]
  redis.call('ZREM', FAILED, id)
  redis.call('DEL', job_key(id), P .. ':results:' .. id)
end
redis.call('HSET', job_key(ARGV[3]), unpack(ARGV, 5 + 2 * count))
redis.call('ZADD', FAILED, -1, ARGV[3])
return 1
