#!/usr/bin/env bash
# The project's goals of speed beside what was measured: medians, and how ours compares with the best
# peer. A figure is a line `WHO WHAT NUMBER` of FIGURES; who was measured more than once has more.
# usage: bench-table.sh FIGURES
set -euo pipefail

awk '
	BEGIN { not_peers["live"]; not_peers["file"]; not_peers["guest"]; not_peers["grown"]; not_peers["pull"] }
	{ values[$1, $2] = values[$1, $2] " " $3; if (!($1 in not_peers)) peers[$1] }
	# The middle one; of memory the most.
	function figure(name, what,   list, count, i, j, swap) {
		count = split(values[name, what], list, " ")
		if (!count) return ""
		for (i = 1; i < count; i++) for (j = i + 1; j <= count; j++)
			if (list[j] + 0 < list[i] + 0) { swap = list[i]; list[i] = list[j]; list[j] = swap }
		return (what == "peak" ? list[count] : list[int((count + 1) / 2)]) + 0
	}
	function verdict(is_met) { return is_met ? "met" : "MISSED" }
	# Ours beside each peer, and the goal as a part of the best.
	function beside(title, mine, what, goal, unit,   ours, best, name, value, line) {
		if ((ours = figure(mine, what)) == "") return
		line = sprintf("| %s | %s %s |", title, ours, unit)
		for (name in peers) {
			value = figure(name, what)
			line = line " " value " |"
			if (value != "" && (best == "" || value < best)) best = value
		}
		if (best == "" || goal == "") print line " |" (goal == "" ? "" : " " goal) " | |"
		else printf "%s %.3f | %s | %s |\n", line, ours / best, goal, verdict(ours / best <= goal)
	}
	# A figure that has a goal of its own.
	function alone(title, value, unit, goal, is_met,   name, line) {
		if (value == "") return
		line = sprintf("| %s | %s %s |", title, value, unit)
		for (name in peers) line = line " |"
		print line " | " goal " | " verdict(is_met) " |"
	}
	function ratio(who, what, other,   one, two) {
		one = figure(who, what); two = figure(who, other)
		return one == "" || two == "" ? "" : sprintf("%.2f", one / two)
	}
	END {
		line = "| median | ours |"; rule = "|---|---|"
		for (name in peers) { line = line " " name " |"; rule = rule "---|" }
		print line " ours / best | goal | |"
		print rule "---|---|---|"
		beside("first backup, the image as a file", "file", "first", 0.5, "s")
		beside("first backup, running machine", "live", "first", 0.5, "s")
		beside("second backup", "live", "second", 0.1, "s")
		beside("stored by the first", "live", "stored", 1.06, "MB")
		beside("stored by the second", "live", "added", 0.4, "MB")
		beside("restore, written", "live", "restore-written", "", "s")
		beside("restore, synced", "live", "restore", 0.6, "s")
		beside("peak memory", "live", "peak", "", "MiB")
		peak = figure("live", "peak")
		alone("peak memory, ours alone", peak, "MiB", "256 MiB", peak <= 256)
		grown = figure("grown", "peak")
		alone("peak memory up to 100 GiB", grown, "MiB", "256 MiB", grown <= 256)
		grown = ratio("grown", "second-100", "second-10")
		alone("second backup, 100 GiB to 10 GiB", grown, "times", "flat", grown <= 1.5)
		split("full 100 10", paces, " ")
		for (i = 1; i in paces; i++) {
			slower = ratio("guest", "p99-" paces[i], "p99-without-" paces[i])
			pace = paces[i] == "full" ? "full speed" : paces[i] " MiB/s"
			alone("guest sync, p99 at " pace, slower, "times", 1.5, slower <= 1.5)
		}
		rate = figure("pull", "rate")
		alone("copy to another node", rate, "MB/s", "300 MB/s", rate >= 300)
	}' "${1:?say where the figures are}"
