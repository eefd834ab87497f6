package main

import (
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// Bytes at the start of each record: when it was due (nanoseconds of Unix time) and its sequence number.
const stamp = 16

// Payloads are a few records of random capital letters, as Kafka's own ProducerPerformance sends them.
func payloads(size int) [][]byte {
	const kinds = 64
	all := make([][]byte, kinds)
	for i := range all {
		all[i] = make([]byte, size)
		for j := range all[i] {
			all[i][j] = byte('A' + rand.IntN(26))
		}
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
