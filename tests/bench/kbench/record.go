package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"time"
)

// Bytes at the start of each record: when it was due (nanoseconds of Unix time) and its sequence number.
const stamp = 16

// Payloads are a few records of random capital letters, as Kafka's own ProducerPerformance sends them. Size 0 is a mix: from
// 100 bytes to 100 KiB, sizes spread evenly over the powers.
func payloads(size int) [][]byte {
	const kinds, mixedMin, mixedMax = 64, 100, 102_400
	all := make([][]byte, kinds)
	for i := range all {
		bytes := size
		if size == 0 {
			share := float64(i) / (kinds - 1)
			bytes = int(mixedMin * math.Pow(mixedMax/mixedMin, share))
		}
		all[i] = make([]byte, bytes)
		for j := range all[i] {
			all[i][j] = byte('A' + rand.IntN(26))
		}
	}
	if size == 0 {
		rand.Shuffle(kinds, func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return all
}

func stamped(payload []byte, due time.Time, sequence int64) []byte {
	record := append([]byte(nil), payload...)
	binary.BigEndian.PutUint64(record, uint64(due.UnixNano()))
	binary.BigEndian.PutUint64(record[8:], uint64(sequence))
	return record
}

func dueOf(record []byte) int64      { return int64(binary.BigEndian.Uint64(record)) }
func sequenceOf(record []byte) int64 { return int64(binary.BigEndian.Uint64(record[8:])) }
