// Package examples tests the example files, which are in the folders beside it.
package examples
