// Package plot draws the report's charts as SVG: grouped bars with every single run as a dot, and lines. The files
// stand alone: no script, no style sheet, no font that a reader might lack.
package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bars is a chart of bars, grouped by category, one bar a series in each.
type Bars struct {
	Title, Unit string
	Categories  []string
	Series      []BarSeries
}

// BarSeries is what one colour shows. Values[i] belongs to Categories[i]: the bar's height is Height's, each of the
// runs a dot. A category with no runs has no bar.
type BarSeries struct {
	Name   string
	Values [][]float64
	Height func(runs []float64) float64
}

// Lines is a chart of lines over a common axis.
type Lines struct {
	Title, XUnit, YUnit string
	Series              []LineSeries
}

// LineSeries is one line; its points are in order of X.
type LineSeries struct {
	Name   string
	Points []Point
}

// Point is one of a line's.
type Point struct{ X, Y float64 }

// The canvas, in pixels; the frame is where the data is.
const (
	width, height            = 820, 440
	left, right, top, bottom = 84, 24, 84, 72
	frameWidth, frameHeight  = width - left - right, height - top - bottom
)

// colour i is from Okabe and Ito's palette, which the colour-blind can tell apart.
func colour(i int) string {
	palette := [...]string{"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#777777"}
	return palette[i%len(palette)]
}

// SVG draws the chart.
func (b Bars) SVG() []byte {
	highest := 0.0
	for _, s := range b.Series {
		for _, runs := range s.Values {
			for _, v := range runs {
				highest = math.Max(highest, v)
			}
		}
	}
	c := begin(b.Title, b.Unit, names(b.Series, func(s BarSeries) string { return s.Name }))
	y := c.vertical(highest)
	group := float64(frameWidth) / float64(max(len(b.Categories), 1))
	bar := math.Min(group*0.84/float64(max(len(b.Series), 1)), 96)
	for i, category := range b.Categories {
		centre := left + group*(float64(i)+0.5)
		for k, line := range wrap(category, int(group/7)) {
			c.text(centre, height-bottom+18+15*float64(k), "middle", 12, line)
		}
		for j, s := range b.Series {
			if i >= len(s.Values) || len(s.Values[i]) == 0 {
				continue
			}
			value := s.Height(s.Values[i])
			x := centre + (float64(j)-float64(len(b.Series))/2)*bar
			c.printf(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" fill-opacity="0.8"/>`,
				x+2, y(value), bar-4, y(0)-y(value), colour(j))
			peak := value
			for k, run := range s.Values[i] {
				peak = math.Max(peak, run)
				offset := (float64(k) + 1) / float64(len(s.Values[i])+1)
				c.printf(`<circle cx="%.1f" cy="%.1f" r="2.5" fill="#222" fill-opacity="0.65"/>`, x+bar*offset, y(run))
			}
			c.text(x+bar/2, y(peak)-7, "middle", 12, Number(value))
		}
	}
	return c.end()
}

// SVG draws the chart. Both axes begin at zero.
func (l Lines) SVG() []byte {
	var furthest, highest float64
	for _, s := range l.Series {
		for _, p := range s.Points {
			furthest, highest = math.Max(furthest, p.X), math.Max(highest, p.Y)
		}
	}
	c := begin(l.Title, l.YUnit, names(l.Series, func(s LineSeries) string { return s.Name }))
	y := c.vertical(highest)
	step := tick(furthest)
	end := math.Max(step*math.Ceil(furthest/step), step)
	x := func(v float64) float64 { return left + v/end*frameWidth }
	for i := 0; float64(i)*step <= end*1.0001; i++ {
		v := float64(i) * step
		c.printf(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#999"/>`, x(v), height-bottom, x(v), height-bottom+5)
		c.text(x(v), height-bottom+20, "middle", 12, Number(v))
	}
	c.text(left+frameWidth/2, height-bottom+44, "middle", 13, l.XUnit)
	for i, s := range l.Series {
		var points bytes.Buffer
		for _, p := range s.Points {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(p.X), y(p.Y))
		}
		c.printf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, points.Bytes(), colour(i))
		for _, p := range s.Points {
			c.printf(`<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`, x(p.X), y(p.Y), colour(i))
		}
	}
	return c.end()
}

type canvas struct{ svg bytes.Buffer }

// begin draws the title, the legend and the unit of the vertical axis.
func begin(title, unit string, legend []string) *canvas {
	c := &canvas{}
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif">`,
		width, height, width, height)
	c.printf(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	c.text(left, 26, "start", 17, title)
	x := float64(left)
	for i, name := range legend {
		c.printf(`<rect x="%.1f" y="42" width="12" height="12" fill="%s"/>`, x, colour(i))
		c.text(x+17, 53, "start", 13, name)
		x += 36 + 7.4*float64(len([]rune(name)))
	}
	c.text(left, top-10, "end", 12, unit)
	return c
}

// vertical draws the axis from zero to highest, with room for a number on top, and returns where a value lies on it.
func (c *canvas) vertical(highest float64) func(float64) float64 {
	step := tick(highest)
	end := math.Max(step*math.Ceil(highest*1.06/step), step)
	y := func(v float64) float64 { return height - bottom - v/end*frameHeight }
	for i := 0; float64(i)*step <= end*1.0001; i++ {
		v := float64(i) * step
		c.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`, left, y(v), width-right, y(v),
			map[bool]string{true: "#555", false: "#ddd"}[i == 0])
		c.text(left-8, y(v)+4, "end", 12, Number(v))
	}
	return y
}

func (c *canvas) printf(format string, args ...any) {
	fmt.Fprintf(&c.svg, format, args...)
	c.svg.WriteByte('\n')
}

func (c *canvas) text(x, y float64, anchor string, size int, text string) {
	var escaped bytes.Buffer
	if err := xml.EscapeText(&escaped, []byte(text)); err != nil {
		panic(err) // a bytes.Buffer takes all
	}
	c.printf(`<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="#222">%s</text>`,
		x, y, anchor, size, escaped.Bytes())
}

func (c *canvas) end() []byte {
	c.printf(`</svg>`)
	return c.svg.Bytes()
}

func names[T any](series []T, name func(T) string) []string {
	var all []string
	for _, s := range series {
		all = append(all, name(s))
	}
	return all
}

// wrap breaks text between words into lines of so many characters, if the words are that short.
func wrap(text string, limit int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= limit {
			lines[last] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}

// tick is the distance of an axis's marks, 1, 2 or 5 times a power of ten, so that about five reach highest.
func tick(highest float64) float64 {
	if !(highest > 0) || math.IsInf(highest, 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/5)))
	for _, factor := range []float64{1, 2, 5} {
		if highest/(power*factor) <= 6 {
			return power * factor
		}
	}
	return power * 10
}

// Number writes v for people: three significant digits or the whole number, thousands set apart by a comma.
func Number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case math.IsInf(v, 0):
		return "∞"
	case v < 0:
		return "-" + Number(-v)
	case v < 999.5:
		rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
		if err != nil {
			panic(err) // FormatFloat's own
		}
		return strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
