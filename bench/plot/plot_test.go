package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"vmw-cloudinit-metadata/bench/plot"
)

// element is what a test looks at of an SVG's.
type element struct {
	name       string
	attributes map[string]string
	text       string
}

// parse reads an SVG with a strict parser.
func parse(t *testing.T, svg []byte) []element {
	t.Helper()
	var elements []element
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("the SVG is no XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attributes: make(map[string]string)}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			elements = append(elements, e)
		case xml.CharData:
			if len(elements) > 0 {
				elements[len(elements)-1].text += string(token)
			}
		}
	}
}

func (e element) number(t *testing.T, attribute string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e.attributes[attribute], 64)
	if err != nil {
		t.Fatalf("%s %s=%q is no number", e.name, attribute, e.attributes[attribute])
	}
	return v
}

// inside checks that nothing is drawn off the canvas.
func inside(t *testing.T, elements []element) {
	t.Helper()
	width, height := elements[0].number(t, "width"), elements[0].number(t, "height")
	for _, e := range elements[1:] {
		for attribute := range e.attributes {
			limit := width
			switch attribute {
			case "y", "cy", "y1", "y2":
				limit = height
			case "x", "cx", "x1", "x2":
			default:
				continue
			}
			if v := e.number(t, attribute); v < 0 || v > limit || math.IsNaN(v) {
				t.Errorf("%s %s=%v is off the canvas (%v)", e.name, attribute, v, limit)
			}
		}
	}
}

func texts(elements []element) map[string]bool {
	all := make(map[string]bool)
	for _, e := range elements {
		if e.name == "text" {
			all[strings.TrimSpace(e.text)] = true
		}
	}
	return all
}

func first(runs []float64) float64 { return runs[0] }

func TestBarsAreInProportion(t *testing.T) {
	elements := parse(t, plot.Bars{
		Title: "A <storm> & more", Unit: "VMs/s",
		Categories: []string{"first", "again"},
		Series: []plot.BarSeries{
			{Name: "floor", Values: [][]float64{{8000, 9000}, {4000}}, Height: first},
			{Name: "ours", Values: [][]float64{{2000}, nil}, Height: first},
		},
	}.SVG())
	inside(t, elements)
	seen := texts(elements)
	for _, want := range []string{"A <storm> & more", "VMs/s", "first", "again", "floor", "ours", "8,000", "4,000", "2,000"} {
		if !seen[want] {
			t.Errorf("no text %q", want)
		}
	}
	var heights []float64
	dots := 0
	for _, e := range elements {
		if e.name == "rect" && e.attributes["fill-opacity"] != "" {
			heights = append(heights, e.number(t, "height"))
		}
		if e.name == "circle" {
			dots++
		}
	}
	if len(heights) != 3 {
		t.Fatalf("%d bars, want 3", len(heights))
	}
	if dots != 4 {
		t.Errorf("%d dots, want one a run: 4", dots)
	}
	// In order of category: floor and ours of the first, floor of the second.
	if r := heights[0] / heights[1]; math.Abs(r-4) > 0.02 {
		t.Errorf("8000 is drawn %v times as high as 2000", r)
	}
	if r := heights[0] / heights[2]; math.Abs(r-2) > 0.02 {
		t.Errorf("8000 is drawn %v times as high as 4000", r)
	}
}

func TestLongNamesAreBrokenBetweenWords(t *testing.T) {
	series := plot.BarSeries{Name: "ours", Height: first}
	var categories []string
	for range 9 {
		categories = append(categories, "telnet negotiations, elsewhere")
		series.Values = append(series.Values, []float64{1})
	}
	elements := parse(t, plot.Bars{Categories: categories, Series: []plot.BarSeries{series}}.SVG())
	inside(t, elements)
	seen := texts(elements)
	for _, want := range []string{"telnet", "negotiations,", "elsewhere"} {
		if !seen[want] {
			t.Errorf("no line %q", want)
		}
	}
}

func TestLinesAreInProportion(t *testing.T) {
	elements := parse(t, plot.Lines{
		Title: "Memory", XUnit: "VMs", YUnit: "KiB",
		Series: []plot.LineSeries{{Name: "ours", Points: []plot.Point{{X: 0, Y: 0}, {X: 5000, Y: 10}, {X: 10000, Y: 20}}}},
	}.SVG())
	inside(t, elements)
	var xs, ys []float64
	for _, e := range elements {
		if e.name == "circle" {
			xs, ys = append(xs, e.number(t, "cx")), append(ys, e.number(t, "cy"))
		}
	}
	if len(xs) != 3 {
		t.Fatalf("%d points, want 3", len(xs))
	}
	if math.Abs((xs[1]-xs[0])-(xs[2]-xs[1])) > 0.2 || math.Abs((ys[1]-ys[0])-(ys[2]-ys[1])) > 0.2 {
		t.Errorf("points of a straight line lie at %v, %v", xs, ys)
	}
	if !(xs[2] > xs[0] && ys[2] < ys[0]) {
		t.Errorf("a rising line falls: %v, %v", xs, ys)
	}
}

func TestNothingMeasuredStillDraws(t *testing.T) {
	inside(t, parse(t, plot.Bars{Title: "none"}.SVG()))
	inside(t, parse(t, plot.Lines{Title: "none"}.SVG()))
	inside(t, parse(t, plot.Lines{Series: []plot.LineSeries{{Name: "flat", Points: []plot.Point{{}}}}}.SVG()))
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.04567: "0.0457", 0.9: "0.9", 3.14159: "3.14", 87.26: "87.3", 999.4: "999", 999.7: "1,000",
		1234.5: "1,234", 65000: "65,000", 1234567: "1,234,567", -2.5: "-2.5", math.Inf(1): "∞",
	} {
		if got := plot.Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
	if got := plot.Number(math.NaN()); got != "-" {
		t.Errorf("Number(NaN) = %q, want -", got)
	}
}
