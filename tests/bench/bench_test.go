// SPDX-License-Identifier: MIT

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpreadOf(t *testing.T) {
	require.Equal(t, spread{Median: 2, Low: 1, High: 9}, spreadOf([]float64{9, 1, 2}, itself), "too few for an interval: the range")
	require.Equal(t, spread{Median: 3, Low: 1, High: 9}, spreadOf([]float64{9, 1, 2, 4}, itself))
	require.Equal(t, spread{Median: 5, Low: 2, High: 8}, spreadOf([]float64{9, 1, 2, 4, 3, 5, 6, 7, 8}, itself), "the 95 % confidence interval of the median")
	require.Equal(t, "1.05 (1.00 to 1.10)", spread{1.05, 1, 1.1}.String())
	require.Equal(t, "105.0 (99.0 to 110.5)", spread{105, 99, 110.5}.String())
}

func TestVerdict(t *testing.T) {
	require.Empty(t, verdict(spread{1, 1, 1}, 0))
	require.Equal(t, "≤ 1.05: met", verdict(spread{1.01, 1, 1.05}, 1.05))
	require.Equal(t, "≤ 1.05: met, within the spread", verdict(spread{1.05, 1, 1.1}, 1.05))
	require.Equal(t, "≤ 1.05: **missed**", verdict(spread{1.2, 1.1, 1.3}, 1.05))
	require.Equal(t, "≤ 1.05: **missed**, within the spread", verdict(spread{1.06, 1, 1.1}, 1.05))
}

func TestParseContention(t *testing.T) {
	// 2 cores with 8 goroutines each: 16 × 40,000 × 1,000 ns are 640,000 µs.
	callers := "      flat  flat%   sum%        cum   cum%   calls calls% + context\n" +
		"                                      12800.50us 49.63% |   github.com/meet-gateway/meet-gateway/tokens/limit.(*Limiter).take\n" +
		"                                       6400.00us 20.24% |   github.com/alicebob/miniredis/v2.withTx (inline)\n" +
		"                                       3200.00us 10.00% |   sync.(*RWMutex).Unlock (inline)\n" +
		"35464691.10us 86.26% 86.26% 35464691.10us 86.26%                | sync.(*Mutex).Unlock\n" +
		"                                      64000.00us   100% |   github.com/meet-gateway/meet-gateway/tokens.(*knownTokens).set.deferwrap1\n"
	c, err := parseContention(2, "BenchmarkGate_Contention-2   \t   40000\t     1000 ns/op\t  1.0 %-waiting\n", callers)
	require.NoError(t, err)
	require.InDelta(t, 12, c.Waiting, 0.01)
	require.Len(t, c.Mutexes, 2)
	require.Equal(t, "tokens.(*knownTokens).set.deferwrap1", c.Mutexes[0].Function)
	require.InDelta(t, 10, c.worst(), 0.01)
	_, err = parseContention(2, "FAIL", callers)
	require.Error(t, err)
}

func TestParseWrk(t *testing.T) {
	s, err := parseWrk([]byte("Running 1s test\n\n" + `{"requests":2000,"microseconds":1000000,"refused":20,"broken":1,"p50":1,"p99":2,"p999":3}` + "\n"))
	require.NoError(t, err)
	require.Equal(t, sent{Requests: 2000, Microseconds: 1_000_000, Refused: 20, Broken: 1}, s)
	require.InDelta(t, 2000, s.perSecond(), 0.1)
	_, err = parseWrk([]byte("unable to connect to 127.0.0.1:1"))
	require.Error(t, err)
	_, err = parseWrk([]byte(`{"requests":0}`))
	require.ErrorContains(t, err, "no answer")
}

func TestParseVegeta(t *testing.T) {
	var rows strings.Builder
	for range 990 {
		rows.WriteString("1795304562674246883,200,1000000,0,300,,,,0,GET,http://127.0.0.1:1/,\n")
	}
	for range 10 {
		rows.WriteString("1795304562674246883,200,9000000,0,300,,,,0,GET,http://127.0.0.1:1/,\n")
	}
	l, err := parseVegeta([]byte(rows.String()))
	require.NoError(t, err)
	require.Equal(t, latency{P50: 1, P99: 1, P999: 9, Answers: 1000}, l)
	_, err = parseVegeta([]byte("1795304562674246883,502,1000000,0,300,,,,0,GET,http://127.0.0.1:1/,\n"))
	require.ErrorContains(t, err, "502")
	_, err = parseVegeta(nil)
	require.Error(t, err)
}

func TestParseH2load(t *testing.T) {
	summary := "TLS Protocol: TLSv1.3\nApplication protocol: h2\n\nfinished in 1.00s, 5000.00 req/s, 1MB/s\n" +
		"requests: 5003 total, 5019 started, 5003 done, 5000 succeeded, 3 failed, 1 errored, 0 timeout\n" +
		"status codes: 5000 2xx, 0 3xx, 1 4xx, 1 5xx\n"
	s, err := parseH2load([]byte(summary), time.Second)
	require.NoError(t, err)
	require.Equal(t, sent{Requests: 5003, Microseconds: 1_000_000, Refused: 2, Broken: 1}, s)
	_, err = parseH2load([]byte(strings.Replace(summary, "protocol: h2", "protocol: http/1.1", 1)), time.Second)
	require.ErrorContains(t, err, "HTTP/2")
	_, err = parseH2load(nil, time.Second)
	require.Error(t, err)
}

// TestStartDelayed: a round trip takes at least the delay.
func TestStartDelayed(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer echo.Close()
	go func() {
		c, err := echo.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	const delay = 20 * time.Millisecond
	relay, err := startDelayed(echo.Addr().String(), delay)
	require.NoError(t, err)
	defer relay.Stop()
	conn, err := net.Dial("tcp", relay.Listen)
	require.NoError(t, err)
	defer conn.Close()
	began := time.Now()
	_, err = conn.Write([]byte("question"))
	require.NoError(t, err)
	answer := make([]byte, len("question"))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.Equal(t, "question", string(answer))
	require.GreaterOrEqual(t, time.Since(began), delay)
}

func TestCountersOf(t *testing.T) {
	info := func(in, out, memory string, commands map[string]string) counters {
		return countersOf(map[string]map[string]string{
			"Stats": {"total_net_input_bytes": in, "total_net_output_bytes": out}, "Memory": {"used_memory": memory}, "Commandstats": commands,
		})
	}
	before := info("100", "200", "1000", map[string]string{"cmdstat_get": "calls=10,usec=5", "cmdstat_info": "calls=1,usec=5"})
	after := info("150", "260", "1100", map[string]string{"cmdstat_get": "calls=12,usec=5", "cmdstat_set": "calls=3,usec=5", "cmdstat_info": "calls=2,usec=5"})
	d := after.since(before)
	require.Equal(t, counters{commands: map[string]int64{"get": 2, "set": 3}, in: 50, out: 60, memory: 100}, d)
	require.EqualValues(t, 5, d.total())
}

func TestRecording(t *testing.T) {
	answers, err := readRecording("../..", recordedRoom, recordedCreate, recordedList+"1")
	require.NoError(t, err)
	text, err := nginxAnswer(answers[recordedCreate])
	require.NoError(t, err)
	require.Contains(t, text, "return 201 ")
	require.Contains(t, text, "add_header Location")
	require.NotContains(t, text, "<", "placeholders are filled")
	_, err = readRecording("../..", "no-such-exchange")
	require.ErrorContains(t, err, "no-such-exchange")
}

func TestExpectedDistinct(t *testing.T) {
	require.InDelta(t, 1, expectedDistinct(1, 5), 1e-9)
	require.InDelta(t, 0, expectedDistinct(0, 5), 1e-9)
	require.InDelta(t, 1.75, expectedDistinct(4, 2), 1e-9)
	require.InDelta(t, 1000, expectedDistinct(1000, 1e9), 1e-6)
}

func tracedSample() traced {
	return traced{Took: 2000, Stops: []stop{{sweepTermination, 0.2, 0.1}, {markTermination, 3, 2.5}}, Marks: []float64{10, 30, 60}, Assists: []float64{0.5, 1.5}, Waits: []float64{0.001}}
}

// filled returns a report with a value in each field.
func filled() *report {
	run := func(cpu time.Duration) sample {
		return sample{sent: sent{Requests: 1000, Microseconds: 1e6}, CPU: cpu, Commands: map[string]int64{"get": 1000}}
	}
	pairs := []pair{{run(80 * time.Millisecond), run(84 * time.Millisecond)}}
	return &report{
		Machine: machine{Cores: 2, CPU: "test"}, Settings: newSettings(false),
		Cases:      []*result{{ID: "hot", Name: "one hot token", A: "plain", B: "gate", Pairs: pairs, Budget: 1.05}, {ID: "token", Name: "token endpoint", Pairs: pairs, Budget: 2, Extra: 10}},
		Peers:      []peer{{result: &result{ID: "nginx", Name: "nginx", Pairs: pairs}, What: "something", Without: "something else"}},
		Fixed:      &fixedRate{Rate: 4000, Pairs: []latencyPair{{latency{P50: 1, P99: 2, P999: 3}, latency{P50: 1, P99: 2.2, P999: 3}}}, A: tracedSample(), B: tracedSample(), Longer: []float64{-1, 0.5, 1.5}},
		Memory:     []resident{{"idle", 0, memory{50e6, 5e6}, memory{60e6, 6e6}}, {"100,000 tokens", 100_000, memory{50e6, 5e6}, memory{90e6, 46e6}}},
		Sweeps:     []*sweep{{ID: "tokens", Name: "tokens", Points: []point{{X: 1, Plain: spread{80, 79, 81}, Gate: spread{84, 83, 85}}, {X: 1000, Plain: spread{80, 79, 81}, Gate: spread{90, 83, 95}}}}},
		Micros:     []string{"pkg: tokens", "BenchmarkVerify 1 1000 ns/op"},
		Contention: []contended{{Cores: 8, Waiting: 3, Mutexes: []share{{Function: "tokens.f", Percent: 2}}}},
		Live:       []livePoint{{Records: 6_000_000, Applications: 1_000_000, Known: spread{1, 1, 1}, New: spread{1, 1, 1}, CPU: spread{30, 30, 30}, Sampled: 100}},
		Trips:      []trips{{Name: "identity", Near: 0.2, Far: 2.3, Budget: 2}},
		Speeds:     speeds{"cases": {100, 200}},
		Coefficients: coefficients{
			HotCPU: 84, NewCPU: 120, CreateCPU: 100, TokenCPU: 200, NewCommands: 1, TokenCommands: 5, RedisCPU: 5,
			MemoryToken: 200, MemoryUser: 400, MemoryMeetToken: 900, MemoryCached: 1500, HeartbeatCommands: 3, HeartbeatBytes: 500, ChangeBytes: 100, ChangeCPU: 5,
		},
		Spreads: []spreadRequests{{Nodes: 2, Tokens: 10, Requests: 100, Predicted: 20, Measured: 19}},
		Feeds:   []feedStep{{Nodes: 4, Idle: 3, Bytes: 100, CPU: 5, Lag: 1}},
		Floods:  []feedStep{{Nodes: 4, Callers: 16, Changes: 1000, Busy: 0.25, CPU: 2, Lag: 3}},
	}
}

func TestReport(t *testing.T) {
	top := t.TempDir()
	require.NoError(t, filled().write(top))
	text, err := os.ReadFile(top + "/docs/benchmarks.md")
	require.NoError(t, err)
	require.Contains(t, string(text), "| one hot token | plain | 80.0 (80.0 to 80.0) | 84.0 (84.0 to 84.0) | 1.05 (1.05 to 1.05) | ≤ 1.05: met |")
	require.Contains(t, string(text), "0.93 (0.93 to 0.93)", "Extra is added to A")
	for _, want := range []string{
		"Machine's speed: 150.0 (100.0 to 200.0) million steps", "| heap for a known token, with its share of the user and of Meet's token | 400.00 B | ≤ 500: met |",
		"`GOMAXPROCS` 8 | 2.00 % | ≤ 1: **missed** |", "identity | 2.00 | ≤ 2: met |", "| 6,000,000 | 1,000,000 |",
		"less plain | 0.50 (-1.00 to 1.50) ms | ≤ 1: met, within the spread |", "| collections a second, and their part of the time | 1.5, 5.0 % |", "| one mark phase | 30.000 / 60.00 / 60.00 |",
		"(`GC mark termination`) | 3.000 / 3.00 / 3.00 |", "| of it, until all had stopped | 2.500 / 2.50 / 2.50 |", "a second, and their part of the time | 1, 0.1 % |", "| one assist | 0.500 / 1.50 / 1.50 |",
	} {
		require.Contains(t, string(text), want)
	}
	require.NotContains(t, string(text), "<no value>")
	require.NotContains(t, string(text), "quick run (`QUICK=1`)")
	text, err = os.ReadFile(top + "/docs/scaling.md")
	require.NoError(t, err)
	require.Contains(t, string(text), "| 1,000,000 | 100,000,000 | same token, same node |")
	require.NotContains(t, string(text), "NaN")
	svg, err := os.Open(top + "/docs/cost-tokens.svg")
	require.NoError(t, err)
	defer svg.Close()
	for d := xml.NewDecoder(svg); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
	}
}

// A quick run has gaps.
func TestReport_WithGaps(t *testing.T) {
	require.NoError(t, (&report{Settings: newSettings(true)}).write(t.TempDir()))
}

func TestModel(t *testing.T) {
	m := newModel(filled())
	for i := 0; i < len(m.Plans); i += 2 {
		anywhere, sticky := m.Plans[i], m.Plans[i+1]
		require.LessOrEqual(t, sticky.Misses, anywhere.Misses, "a sticky load balancer avoids cache misses")
		require.LessOrEqual(t, sticky.Nodes, anywhere.Nodes)
		require.InDelta(t, anywhere.RedisMemory, sticky.RedisMemory, 1)
		require.GreaterOrEqual(t, anywhere.Nodes*nodeCores*nodeUtilisation*1e6, anywhere.Requests*readPart*m.C.HotCPU, "the nodes have enough CPU")
		if i > 0 {
			require.GreaterOrEqual(t, anywhere.Nodes, m.Plans[i-2].Nodes)
			require.GreaterOrEqual(t, anywhere.Shards, m.Plans[i-2].Shards)
		}
	}
	require.Greater(t, m.Bends[0].Nodes, m.Bends[3].Nodes)
}

// TestProcess: cpu, rss and tail describe a running process, and stop ends it.
func TestProcess(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell")
	}
	p, err := start(t.TempDir(), "worker", nil, "sh", "-c", "echo begun; while :; do :; done")
	require.NoError(t, err)
	defer p.stop()
	require.Eventually(t, func() bool {
		used, err := p.cpu()
		return err == nil && used > time.Millisecond
	}, 30*time.Second, time.Millisecond)
	rss, err := p.rss()
	require.NoError(t, err)
	require.Positive(t, rss)
	require.Eventually(t, func() bool { return p.tail() == "begun" }, 30*time.Second, time.Millisecond)
	p.stop()
	_, err = p.cpu()
	require.Error(t, err)
}
