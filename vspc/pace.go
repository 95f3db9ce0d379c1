package vspc

import "time"

// longestRest bounds how long a connection is not read for readSize bytes. A command waits for it, and for all that stands
// before it: a flood must not keep its VM from migrating, so that readSize comes through in that time, whatever the rate and
// however much is read at once.
const longestRest = 50 * time.Millisecond

// pace keeps a connection to a rate: one that never stops must not take the processor from the others.
type pace struct {
	ahead int       // bytes read, less those that time has allowed since
	at    time.Time // of the last reckoning
}

// rest reckons n bytes that were read, and sleeps if they were too many for rate, in bytes a second; 0 is no bound.
func (p *pace) rest(n, rate int) {
	if rate <= 0 || n == 0 {
		return
	}
	now := time.Now()
	allowed := float64(rate) * now.Sub(p.at).Seconds()
	p.ahead, p.at = max(0, p.ahead-int(min(allowed, float64(p.ahead)))), now
	p.ahead = min(p.ahead+n, 2*rate) // a flood that is over is not held against its port for long
	if over := p.ahead - rate; over > 0 {
		longest := longestRest * time.Duration(min(n, readSize)) / readSize
		time.Sleep(min(longest, time.Duration(over)*time.Second/time.Duration(rate)))
	}
}
