package main

import (
	"testing"
)

func TestShortSetsOnlyWhatWasNotGiven(t *testing.T) {
	o, err := parse([]string{"-short", "-watches", "77"})
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 1 || o.workloads.Watches != 77 || o.workloads.Requests >= 20000 {
		t.Errorf("got %+v", o)
	}
}

func TestWorksAreChosenByNameInTheirOrder(t *testing.T) {
	o, err := parse([]string{"-works", "get,start"})
	if err != nil {
		t.Fatal(err)
	}
	if len(o.works) != 2 || o.works[0].Name() != "start" || o.works[1].Name() != "get" {
		t.Errorf("got %v", o.works)
	}
	if all, err := parse(nil); err != nil || len(all.works) != len(workNames()) {
		t.Errorf("by default %v, %v", all.works, err)
	}
}

func TestBadFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-works", "get,nothing"},
		{"-works", "get,get"},
		{"-works", ""},
		{"-rounds", "0"},
		{"-watches", "-1"},
		{"-apiservices", "5001"},
		{"-event-rate", "1001"},
		{"extra"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestFlagsWithoutEffectAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-plot", "x.svg"}, {"-scale", "-works", "get"}, {"-scale", "-watches", "5"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
	o, err := parse([]string{"-scale", "-short", "-plot", "x.svg", "-idle", "7"})
	if err != nil || !o.growth || o.plot != "x.svg" || o.scale.IdleSeconds != 7 || o.scale.Steps[len(o.scale.Steps)-1] > 50 {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err := parse([]string{"-scale"}); err != nil || o.scale.Steps[len(o.scale.Steps)-1] != 1000 || o.scale.CRDs != 500 {
		t.Errorf("got %+v, %v", o, err)
	}
}
