-- Any commands, in one step, also if Redis is full: counts, records, states. ARGV[3...]: for each command the number of
-- its words, and the words. Returns their answers.
local answers, i = {}, 3
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  answers[#answers + 1] = redis.call(unpack(ARGV, i + 1, i + words))
  i = i + words + 1
end
return answers
