package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Clock measures a run: time, what the brokers and this client burned.
type clock struct {
	started time.Time
	pids    string
	brokers float64
	client  float64
}

func startClock(pids string) clock {
	return clock{started: time.Now(), pids: pids, brokers: brokersUsage(pids).cpu, client: clientCPU()}
}

func (c clock) stop(records, bytes int64) answer {
	seconds := time.Since(c.started).Seconds()
	result := answer{"seconds": round(seconds), "client_cpu_s": round(clientCPU() - c.client)}
	if records > 0 {
		result["records"] = records
		result["mb_s"] = round(float64(bytes) / seconds / 1e6)
	}
	if now := brokersUsage(c.pids); now.rss > 0 {
		result["broker_cpu_s"] = round(now.cpu - c.brokers)
		result["broker_rss_mib"] = round(now.rss)
		result["broker_rss_max_mib"] = round(now.largest)
	}
	return result
}

// Usage is CPU seconds (user and system) and resident MiB.
type usage struct{ cpu, rss, largest float64 }

// BrokersUsage is that of all brokers together, and the memory of the largest; nothing without a process.
func brokersUsage(pids string) (all usage) {
	for pid := range strings.SplitSeq(pids, ",") {
		cpu, rss := processUsage(pid)
		all.cpu += cpu
		all.rss += rss
		all.largest = max(all.largest, rss)
	}
	return all
}

func processUsage(pid string) (cpu, rssMiB float64) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if pid == "" || err != nil {
		return 0, 0
	}
	// The name of the program may hold spaces and ends with the last parenthesis.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	pages, _ := strconv.ParseFloat(string(fields[21]), 64)
	return processCPU(pid), pages * float64(os.Getpagesize()) / (1 << 20)
}

// ProcessCPU asks the process's own clock: what is in `stat` comes in hundredths of a second, which is much of what a broker needs for a
// gigabyte.
func processCPU(pid string) float64 {
	number, err := strconv.Atoi(pid)
	if err != nil {
		return 0
	}
	// As clock_getcpuclockid makes it: the process, with all its threads, by the scheduler's account.
	const scheduled = 2
	clock := int32(^number<<3 | scheduled)
	var time syscall.Timespec
	_, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&time)), 0)
	if failed != 0 {
		return 0
	}
	return float64(time.Nano()) / 1e9
}

func clientCPU() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
