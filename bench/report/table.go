package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"vmw-cloudinit-metadata/bench/plot"
	"vmw-cloudinit-metadata/bench/stats"
)

// Case says how a case is shown.
type Case struct {
	Name, Title, About string
	Columns            []Column
	// Axis is what the phases count, where they are numbers.
	Axis string
	// Phases and Servers are in the order in which they are shown; others that were measured come behind.
	Phases, Servers []string
}

// Column is one metric of a case.
type Column struct {
	Metric, Unit string
	// Ratio adds a column with the ratio of Ours to the row's server.
	Ratio bool
	// Chart draws the metric as bars; Line as lines, over the phases whose names are numbers.
	Chart, Line bool
}

// Ours is the server whose ratios the tables show.
const Ours = "ours"

// rows are the pairs of phase and server that were measured, in the case's order.
func (c Case) rows(r *Report) [][2]string {
	var rows [][2]string
	for _, m := range r.Measures {
		if row := [2]string{m.Phase, m.Server}; m.Case == c.Name && !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b [2]string) int {
		if d := place(c.Phases, a[0]) - place(c.Phases, b[0]); d != 0 {
			return d
		}
		return place(c.Servers, a[1]) - place(c.Servers, b[1])
	})
	return rows
}

func place(order []string, name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

// Tables writes each case's medians as a table in Markdown.
func (r *Report) Tables(w io.Writer, cases []Case) {
	for _, c := range cases {
		rows := c.rows(r)
		if len(rows) == 0 {
			continue
		}
		table := [][]string{{"phase", "server"}}
		for _, column := range c.Columns {
			table[0] = append(table[0], column.Unit)
			if column.Ratio {
				table[0] = append(table[0], "ours ÷ it")
			}
		}
		for _, row := range rows {
			line := []string{row[0], row[1]}
			for _, column := range c.Columns {
				values := r.Values(c.Name, row[0], row[1], column.Metric)
				line = append(line, plot.Number(stats.Median(values)))
				if column.Ratio {
					ratios := stats.Ratios(r.Values(c.Name, row[0], Ours, column.Metric), values)
					text := plot.Number(stats.Median(ratios))
					if row[1] == Ours {
						text = ""
					}
					line = append(line, text)
				}
			}
			table = append(table, line)
		}
		fmt.Fprintf(w, "## %s\n\n%s\n\n", c.Title, c.About)
		Markdown(w, table)
		fmt.Fprintln(w)
	}
}

// Goals writes what is to be reached, and what is.
func (r *Report) Goals(w io.Writer, goals []Goal) {
	table := [][]string{{"case", "phase", "figure", "÷", "goal", "median", "turns", "reached"}}
	for _, goal := range goals {
		o, measured := r.Outcome(goal, Ours)
		if !measured {
			continue
		}
		of := goal.Against
		if goal.AgainstPhase != "" {
			of += ", " + goal.AgainstPhase
		}
		var bounds []string
		if goal.Least != 0 {
			bounds = append(bounds, "≥ "+plot.Number(goal.Least))
		}
		if goal.Most != 0 {
			bounds = append(bounds, "≤ "+plot.Number(goal.Most))
		}
		table = append(table, []string{
			goal.Case, goal.Phase, goal.Metric, of, strings.Join(bounds, ", "), plot.Number(o.Median),
			plot.Number(o.Low) + " to " + plot.Number(o.High), map[bool]string{true: "yes", false: "no"}[o.Reached],
		})
	}
	if len(table) > 1 {
		Markdown(w, table)
	}
}

// Compare writes the medians of r beside those of former, for the same case, phase, server and metric. It judges
// nothing: what the machine did meanwhile is not known.
func (r *Report) Compare(w io.Writer, former *Report) {
	if r.Machine != former.Machine || r.Small != former.Small {
		fmt.Fprintf(w, "Not measured alike: then %+v, small %v; now %+v, small %v. Only ratios say something.\n\n",
			former.Machine, former.Small, r.Machine, r.Small)
	}
	table := [][]string{{"case", "phase", "server", "metric", "then", "now", "now ÷ then"}}
	for _, m := range r.Measures {
		then := former.Values(m.Case, m.Phase, m.Server, m.Metric)
		if then == nil {
			continue
		}
		a, b := stats.Median(then), stats.Median(m.Values)
		table = append(table, []string{
			m.Case, m.Phase, m.Server, m.Metric, plot.Number(a), plot.Number(b), plot.Number(b / a),
		})
	}
	Markdown(w, table)
}

// Markdown writes a table, whose first line is the head, so that it can be read as plain text too.
func Markdown(w io.Writer, table [][]string) {
	if len(table) == 0 {
		return
	}
	widths := make([]int, len(table[0]))
	for _, line := range table {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for i, line := range table {
		for j, cell := range line {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(" ", widths[j]-len([]rune(cell))))
		}
		fmt.Fprintln(w, "|")
		if i == 0 {
			for _, width := range widths {
				fmt.Fprintf(w, "|%s", strings.Repeat("-", width+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

// Charts draws the cases' charts, by file name.
func (r *Report) Charts(cases []Case) map[string][]byte {
	charts := make(map[string][]byte)
	for _, c := range cases {
		var phases, servers []string
		for _, row := range c.rows(r) {
			if !slices.Contains(phases, row[0]) {
				phases = append(phases, row[0])
			}
			if !slices.Contains(servers, row[1]) {
				servers = append(servers, row[1])
			}
		}
		slices.SortStableFunc(servers, func(a, b string) int { return place(c.Servers, a) - place(c.Servers, b) })
		for _, column := range c.Columns {
			name := c.Name + "-" + column.Metric + ".svg"
			switch {
			case len(phases) == 0:
			case column.Chart:
				chart := plot.Bars{Title: c.Title, Unit: column.Unit, Categories: phases}
				for _, server := range servers {
					series := plot.BarSeries{Name: server, Height: stats.Median}
					for _, phase := range phases {
						series.Values = append(series.Values, r.Values(c.Name, phase, server, column.Metric))
					}
					chart.Series = append(chart.Series, series)
				}
				charts[name] = chart.SVG()
			case column.Line:
				chart := plot.Lines{Title: c.Title, XUnit: c.Axis, YUnit: column.Unit}
				for _, server := range servers {
					series := plot.LineSeries{Name: server}
					for _, phase := range phases {
						x, err := strconv.ParseFloat(phase, 64)
						if values := r.Values(c.Name, phase, server, column.Metric); err == nil && values != nil {
							series.Points = append(series.Points, plot.Point{X: x, Y: stats.Median(values)})
						}
					}
					chart.Series = append(chart.Series, series)
				}
				charts[name] = chart.SVG()
			}
		}
	}
	return charts
}
