package lru

import "testing"

func TestBound(t *testing.T) {
	c := New[string, int](3 * (overhead + 100))
	for i, key := range []string{"a", "b", "c"} {
		c.Put(key, i, 100)
	}
	if _, ok := c.Get("a"); !ok {
		t.Fatal("a is gone although all fit")
	}
	c.Put("d", 3, 100)
	for key, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if _, ok := c.Get(key); ok != want {
			t.Errorf("%s: there is %v, want %v: b was not used for the longest time", key, ok, want)
		}
	}
	c.Put("huge", 4, 3*(overhead+100))
	if _, ok := c.Get("huge"); ok || c.Len() != 3 {
		t.Errorf("what can't fit is stored, or made others go: %d left", c.Len())
	}
	c.Put("a", 5, 2*(overhead+100))
	if v, _ := c.Get("a"); v != 5 || c.Len() != 1 {
		t.Errorf("a is %d among %d values, want 5, and alone in its new size", v, c.Len())
	}
}

func TestForget(t *testing.T) {
	c := New[int, string](10_000)
	c.Put(1, "one", 0)
	c.Put(2, "two", 0)
	c.Remove(1)
	c.Remove(7)
	if _, ok := c.Get(1); ok || c.Len() != 1 {
		t.Error("removed, and still there")
	}
	c.Clear()
	if c.Len() != 0 || c.used != 0 {
		t.Errorf("cleared, and %d values of %d bytes are left", c.Len(), c.used)
	}
}
