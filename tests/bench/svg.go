// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"math"
	"strings"
)

// Layout of a plot, in pixels.
const (
	plotWidth, plotHeight = 720, 360
	plotLeft, plotRight   = 70, 20
	plotTop, plotBottom   = 40, 60
)

// series is one line of a plot.
type series struct {
	name, color string
	values      []spread
}

// plot draws values against xs on a logarithmic axis, with the range of each.
func plot(title, xName, yName string, xs []int, lines []series) string {
	top := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			top = max(top, v.High)
		}
	}
	top = niceAbove(top)
	first, last := math.Log(float64(xs[0])), math.Log(float64(xs[len(xs)-1]))
	x := func(v int) float64 {
		if last == first {
			return plotLeft
		}
		return plotLeft + (math.Log(float64(v))-first)/(last-first)*(plotWidth-plotLeft-plotRight)
	}
	y := func(v float64) float64 { return plotTop + (1-v/top)*(plotHeight-plotTop-plotBottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<text x="%d" y="20" font-size="14">%s</text>`+"\n", plotLeft, title)
	const steps = 5
	for i := range steps + 1 {
		v := top * float64(i) / steps
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", plotLeft, plotWidth-plotRight, y(v), y(v))
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%.4g</text>`+"\n", plotLeft-6, y(v)+4, v)
	}
	for _, v := range xs {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(v), plotHeight-plotBottom+18, thousands(float64(v)))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (plotLeft+plotWidth-plotRight)/2, plotHeight-plotBottom+38, xName)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n", plotHeight/2, yName)
	for i, l := range lines {
		var path []string
		for j, v := range l.values {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(xs[j]), y(v.Median)))
			fmt.Fprintf(&b, `<line x1="%[1]f" x2="%[1]f" y1="%.1[2]f" y2="%.1[3]f" stroke="%[4]s" stroke-width="1"/>`+"\n", x(xs[j]), y(v.Low), y(v.High), l.color)
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(xs[j]), y(v.Median), l.color)
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(path, " "), l.color)
		legend := plotWidth - plotRight - 150
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", legend, 10+16*i, l.color, legend+18, 20+16*i, l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// niceAbove returns a round number that is at least v.
func niceAbove(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*power >= v {
			return m * power
		}
	}
	return 10 * power
}

// thousands formats a whole number with commas.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
