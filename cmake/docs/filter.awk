# SPDX-License-Identifier: MIT
#
# Shows Doxygen a header as its readers see it: the declarations, each block of a comment under a heading, and one
# comment for all overloads that stand together. Other files pass as they are. No line changes its number.

# The name of the function whose declaration begins in line i, with its parenthesis; "" if it is no function's.
function function_name(i) {
  for (; i <= count; ++i) {
    if (line[i] ~ /^ *\/\//) continue
    if (match(line[i], /[A-Za-z_0-9=]+\(/)) return substr(line[i], RSTART, RLENGTH)
    if (line[i] ~ /[;{}]$/) return ""
  }
  return ""
}

{ line[++count] = $0 }

END {
  header = FILENAME ~ /\.hpp$/
  for (i = 1; i <= count; ++i) {
    text = line[i]
    if (header) {
      # All headers have one namespace open where their declarations end.
      if (text ~ /^\/\/ Implementation\./) {
        print "}"
        exit
      }
      # "/// Shape: …": see the alias.
      if (match(text, /^ *\/\/\/ (Shape|Throws|Complexity|Lifetime|Source)(, (Throws|Complexity))*: /)) {
        start = index(text, "///") + 4
        heading = substr(text, start, RLENGTH - start - 1)
        gsub(/,/, "\\,", heading)
        text = substr(text, 1, start - 1) "\\block{" heading "} " substr(text, RLENGTH + 1)
      }
      if (text ~ /^ ? ?(template <|\[\[nodiscard\]\])/) {
        name = function_name(i)
        if ((name in documented) && line[i - 1] ~ /[;}]$/) text = "/** As the one above. */ " text
        if (name != "") documented[name]
      }
    }
    print text
  }
}
