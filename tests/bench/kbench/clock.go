package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Clock measures a run: time, what the broker and this client burned.
type clock struct {
	started time.Time
	pid     int
	broker  float64
	client  float64
}

func startClock(pid int) clock {
	cpu, _ := brokerUsage(pid)
	return clock{started: time.Now(), pid: pid, broker: cpu, client: clientCPU()}
}

func (c clock) stop(records, bytes int64) answer {
	seconds := time.Since(c.started).Seconds()
	result := answer{"seconds": round(seconds), "client_cpu_s": round(clientCPU() - c.client)}
	if records > 0 {
		result["records"] = records
		result["mb_s"] = round(float64(bytes) / seconds / 1e6)
	}
	if cpu, rss := brokerUsage(c.pid); rss > 0 {
		result["broker_cpu_s"] = round(cpu - c.broker)
		result["broker_rss_mib"] = round(rss)
	}
	return result
}

// BrokerUsage is CPU seconds (user and system) and resident MiB, from /proc/PID/stat; nothing without a process.
func brokerUsage(pid int) (cpu, rssMiB float64) {
	const ticksPerSecond = 100 // USER_HZ of every Linux that Go runs on
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name of the program may hold spaces and ends with the last parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	number := func(i int) float64 {
		value, _ := strconv.ParseFloat(string(fields[i]), 64)
		return value
	}
	return (number(11) + number(12)) / ticksPerSecond, number(21) * float64(os.Getpagesize()) / (1 << 20)
}

func clientCPU() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
