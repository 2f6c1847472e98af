#!/usr/bin/env bash
# Checks every shell script of the repository with shellcheck.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# By their first lines, for some have no ending.
git ls-files -z | while IFS= read -r -d '' file; do
	[[ -f $file ]] || continue
	first=$(head -c 80 "$file" | head -n 1 | tr -d '\0')
	if [[ $first =~ ^(#!.*(/|\ )(ba)?sh|#\ shellcheck\ shell=) ]]; then
		printf '%s\0' "$file"
	fi
done | xargs -0 shellcheck --external-sources

# Parts of one script, with pages of the book between them: what one sets another uses, and all of them
# end at the first error.
shellcheck --shell=bash --exclude=SC1091,SC1094,SC2016,SC2034,SC2154,SC2164 e2e/book/*.sh
