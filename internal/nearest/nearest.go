// Package nearest finds the word that a misspelt one was meant to be, for error messages.
package nearest

import "strings"

// maxWord bounds the work, in bytes: nobody means a known word by a longer one.
const maxWord = 64

// Word returns the known word that is nearest to word, and its distance in keystrokes: letters added, left out,
// changed, or swapped with their neighbour. Upper and lower case, "_" and "-" are no difference. One keystroke in
// three letters may be wrong; "" is returned if no word is as near as that.
func Word(word string, known []string) (nearest string, distance int) {
	if len(word) > maxWord {
		return "", 0
	}
	folded := fold(word)
	for _, candidate := range known {
		if d := between(folded, fold(candidate)); 3*d <= len(candidate) && (nearest == "" || d < distance) {
			nearest, distance = candidate, d
		}
	}
	return nearest, distance
}

// Hint returns " (did you mean …?)", or the list of known words if none is near.
func Hint(word string, known []string) string {
	if meant, _ := Word(word, known); meant != "" {
		return ": did you mean " + meant + "?"
	}
	return ": known are " + strings.Join(known, ", ")
}

func fold(word string) string { return strings.ReplaceAll(strings.ToLower(word), "_", "-") }

// between is the optimal string alignment distance of a and b.
func between(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
